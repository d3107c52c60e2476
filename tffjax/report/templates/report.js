"use strict";
/* Draws what the page's data holds: the ranking, curves, whiskers and channel pages.
   Texts get into the page as text nodes only, pictures as blobs of what the page itself carries. */

const data = JSON.parse(document.getElementById("data").textContent);
const MEASURES = {
  ap: "AP", fake_calibrated: "accuracy on fake images (calibrated threshold)",
  real_calibrated: "accuracy on real images (calibrated threshold)",
  fake: "accuracy on fake images (threshold 0.5)", real: "accuracy on real images (threshold 0.5)",
};
const KINDS = {top: "top k", random: "random k", low: "low k"};
const ROWS = 100;
const COLUMNS = 32; // of a picture of patches

/* ---- elements and numbers */

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}
const element = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)}%`);

function short(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const number = Number(value); // infinities come as words
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const exact = number !== 0 && Math.abs(number) < 1e-4 ? number.toExponential(digits - 1) : String(Number(number.toPrecision(digits)));
  return exact.replaceAll("-", "−");
}

function legend(entries) {
  return element("ul", {class: "legend"}, entries.map(([mark, words]) => element("li", {}, element("i", {class: mark}), words)));
}

/* ---- pictures: WebP in base64 at the end of the page, decoded when they are looked at */

const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, {once: true});
  else resolve();
});
const pictures = new Map();

async function picture(name) {
  await parsed;
  if (!pictures.has(name)) {
    const carrier = document.querySelector(`#images > [data-name="${CSS.escape(name)}"]`);
    const bytes = Uint8Array.from(atob(carrier.textContent), (letter) => letter.charCodeAt(0));
    pictures.set(name, URL.createObjectURL(new Blob([bytes], {type: "image/webp"})));
  }
  return pictures.get(name);
}

/** The cell `index` of a picture of `count` square cells. */
function cell(name, index, count, alt, small) {
  const columns = Math.min(COLUMNS, count), rows = Math.ceil(count / columns);
  const image = element("img", {alt, decoding: "async"});
  image.style.width = `${100 * columns}%`;
  image.style.height = `${100 * rows}%`;
  image.style.left = `${-100 * (index % columns)}%`;
  image.style.top = `${-100 * Math.floor(index / columns)}%`;
  picture(name).then((url) => { image.src = url; });
  return element("span", {class: small ? "patch small" : "patch", title: alt}, image);
}

/** Calls `show` when the element comes near the screen, or is about to be printed. */
function whenNear(node, show) {
  const watch = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) now();
  }, {rootMargin: "600px"});
  const now = () => { watch.disconnect(); removeEventListener("beforeprint", now); show(); };
  watch.observe(node);
  addEventListener("beforeprint", now);
}

/* ---- the ranking */

/** The channel keys of a ranking, best first. */
function keysOf(ranking) {
  ranking.keys ??= ranking.site.map((site, i) => {
    const [name, channels] = ranking.sites[site];
    return `${name}.#${ranking.channel[i]}(T=${channels})`;
  });
  return ranking.keys;
}

const linkTo = (key) => `#/channel/${encodeURIComponent(key)}`;
const several = (list, what) => new Set(list.map((one) => one[what])).size > 1;
const nameOf = (ranking) => `${ranking.title}${several(data.rankings, "run") ? `, ${ranking.run}` : ""}`;

function columnsOf(ranking) {
  const keys = keysOf(ranking);
  const columns = [
    {heading: "rank", value: (i) => i, text: (i) => String(i + 1)},
    {heading: "channel", words: true, value: (i) => keys[i], text: (i) => element("a", {href: linkTo(keys[i])}, keys[i])},
    {heading: "omega", value: (i) => ranking.omega[i], text: (i) => percent(ranking.omega[i], 3), largest: true},
    {heading: "± se", value: (i) => ranking.standard_error[i], text: (i) => percent(ranking.standard_error[i], 3), largest: true},
    {heading: "95% interval", value: (i) => ranking.low[i], largest: true,
      text: (i) => (ranking.low[i] === null ? "–" : `${percent(ranking.low[i], 2)} to ${percent(ranking.high[i], 2)}`)},
    {heading: "rank interval", value: (i) => ranking.rank_low[i],
      text: (i) => (ranking.rank_low[i] === null ? "–" : `${ranking.rank_low[i]} to ${ranking.rank_high[i]}`)},
    {heading: `in top ${ranking.k}`, value: (i) => ranking.in_top[i], text: (i) => percent(ranking.in_top[i], 0), largest: true},
  ];
  if (Object.keys(data.effects).length) {
    const effect = (i) => data.effects[keys[i]];
    columns.push({heading: "effect alone", value: (i) => (effect(i) === undefined ? null : Number(effect(i))), text: (i) => short(effect(i)), largest: true});
  }
  return columns;
}

function showRanking(host) {
  let ranking = data.rankings[0], column = 0, descending = false, shown = ROWS;
  const search = element("input", {type: "search", placeholder: "such as layer1 or #63(", "aria-label": "Search channels", oninput: () => { shown = ROWS; draw(); }});
  const chooser = element("select", {onchange: () => { ranking = data.rankings[chooser.value]; column = 0; descending = false; shown = ROWS; draw(); }},
    data.rankings.map((one, i) => element("option", {value: i}, nameOf(one))));
  const count = element("span", {class: "soft", role: "status"});
  const head = element("thead"), body = element("tbody");
  const more = element("button", {class: "more", type: "button", onclick: () => {
    const next = shown;
    shown += ROWS;
    draw();
    body.rows[next]?.querySelector("a").focus();
  }});

  function order(columns) {
    const query = search.value.trim().toLowerCase(), keys = keysOf(ranking), {value} = columns[column];
    const rows = keys.map((_, i) => i).filter((i) => !query || keys[i].toLowerCase().includes(query));
    const missing = (i) => (value(i) === null ? 1 : 0); // those without a value come last, whatever the direction
    const sign = descending ? -1 : 1;
    return rows.sort((a, b) => missing(a) - missing(b) || (value(a) < value(b) ? -sign : value(a) > value(b) ? sign : a - b));
  }

  function draw() {
    const columns = columnsOf(ranking), rows = order(columns), best = ranking.omega[0] || 1;
    head.replaceChildren(element("tr", {}, columns.map((one, i) => element("th",
      {scope: "col", class: one.words ? null : "number", "aria-sort": i === column ? (descending ? "descending" : "ascending") : null},
      element("button", {type: "button", "data-column": i, onclick: () => {
        descending = i === column ? !descending : Boolean(one.largest);
        column = i;
        draw();
        head.querySelector(`[data-column="${i}"]`).focus();
      }}, one.heading)))));
    body.replaceChildren(...rows.slice(0, shown).map((i) => {
      const row = element("tr", {class: i < ranking.k ? "top" : null},
        columns.map((one) => element("td", {class: one.words ? null : one.heading === "omega" ? "number omega" : "number"}, one.text(i))));
      row.querySelector(".omega").style.setProperty("--share", percent((ranking.omega[i] ?? 0) / best));
      return row;
    }));
    const all = ranking.omega.length;
    count.textContent = `${rows.length.toLocaleString("en")} of ${all.toLocaleString("en")} channels, ${Math.min(shown, rows.length)} shown`;
    more.hidden = rows.length <= shown;
    more.textContent = `Show ${Math.min(ROWS, rows.length - shown)} more`;
  }

  const choose = data.rankings.length > 1 ? element("label", {}, "Ranking of", chooser) : null;
  host.classList.add("ranking");
  host.append(
    element("div", {class: "controls"}, choose, element("label", {}, "Search", search), count),
    element("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Channels by rank"},
      element("table", {}, element("caption", {}, "Orange: the top channels. A channel's name leads to its page."), head, body)),
    more);
  draw();
}

/* ---- curves of dropout and find-k */

const FRAME = {width: 320, height: 185, left: 40, right: 310, top: 8, bottom: 160};
const yOf = (share) => FRAME.bottom - share * (FRAME.bottom - FRAME.top);

function showCurves(host, run) {
  const names = Object.keys(MEASURES);
  const chooser = element("select", {onchange: () => draw()}, names.map((name) => element("option", {value: name}, MEASURES[name])));
  const charts = element("div", {class: "charts"});
  const kinds = Object.keys(KINDS).filter((kind) => run.generators.some((one) => one.measures.ap[kind]));
  const published = run.generators.some((one) => names.some((name) => Object.keys(one.measures[name].published).length));
  const banded = run.generators.some((one) => one.measures.ap.random?.some((point) => point.length > 2));
  const words = kinds.map((kind) => [`of-${kind}`, kind === "random" && banded ? "random k (band: all draws)" : KINDS[kind]]);
  const draw = () => charts.replaceChildren(...run.generators.map((one) => curveChart(one, chooser.value, run.mark)));
  host.append(
    element("div", {class: "controls"}, element("label", {}, "Show", chooser)),
    legend([["dashed", "nothing switched off"], ...words, ...(published ? [["hollow", "published"]] : [])]), charts);
  draw();
}

function curveChart(one, measure, mark) {
  const curves = one.measures[measure];
  const kinds = Object.keys(KINDS).filter((kind) => curves[kind]);
  const ks = [...new Set(kinds.flatMap((kind) => curves[kind].map(([k]) => k)))].sort((a, b) => a - b);
  const span = Math.log(ks.at(-1) / ks[0]) || 1;
  const xOf = (k) => (ks.length === 1 ? (FRAME.left + FRAME.right) / 2 : FRAME.left + 12 + (Math.log(k / ks[0]) / span) * (FRAME.right - FRAME.left - 20));
  const guide = svg("line", {class: "guide", y1: FRAME.top, y2: FRAME.bottom});
  const readout = element("p", {class: "readout"});
  const name = one.generator || "images";

  let at = ks.includes(mark) ? ks.indexOf(mark) : ks.length - 1;
  function point(index) {
    at = Math.min(Math.max(index, 0), ks.length - 1);
    const k = ks[at];
    guide.setAttribute("x1", xOf(k));
    guide.setAttribute("x2", xOf(k));
    const parts = kinds.map((kind) => {
      const [, value, low, high] = curves[kind].find(([own]) => own === k) ?? [];
      const theirs = curves.published[kind]?.find(([own]) => own === k);
      const band = low === undefined ? "" : ` (${percent(low)} to ${percent(high)})`;
      return value === undefined ? "" : `${kind} ${percent(value)}${band}${theirs ? `, published ${percent(theirs[1])}` : ""}`;
    });
    readout.textContent = `k = ${k}: ${parts.filter(Boolean).join("; ")}; without ${percent(curves.baseline)}`;
    chart.setAttribute("aria-valuenow", at);
    chart.setAttribute("aria-valuetext", readout.textContent);
  }

  const path = (points) => points.filter(([, value]) => value !== null).map(([k, value], i) => `${i ? "L" : "M"}${xOf(k).toFixed(1)} ${yOf(value).toFixed(1)}`).join("");
  const drawn = kinds.map((kind) => {
    const band = curves[kind].filter((entry) => entry.length > 2);
    const edge = [...band.map(([k, , low]) => [k, low]), ...band.map(([k, , , high]) => [k, high]).reverse()];
    return svg("g", {class: `of-${kind}`},
      band.length > 1 ? svg("path", {class: "band", d: path(edge)}) : band.map(([k, , low, high]) => svg("rect", {class: "band", x: xOf(k) - 4, width: 8, y: yOf(high), height: yOf(low) - yOf(high)})),
      svg("path", {class: "line", d: path(curves[kind])}),
      curves[kind].filter(([, value]) => value !== null).map(([k, value]) => svg("circle", {class: "dot", cx: xOf(k), cy: yOf(value), r: 3})),
      (curves.published[kind] ?? []).map(([k, value]) => svg("rect", {class: "published", x: -3.5, y: -3.5, width: 7, height: 7, transform: `translate(${xOf(k)} ${yOf(value)}) rotate(45)`})));
  });
  const chart = svg("svg", {
    viewBox: `0 0 ${FRAME.width} ${FRAME.height}`, tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": ks.length - 1,
    "aria-label": `${MEASURES[measure]} on ${name} by the number of channels switched off`,
    onpointermove: (event) => {
      const box = chart.getBoundingClientRect(), x = ((event.clientX - box.left) / box.width) * FRAME.width;
      point(ks.reduce((best, k, i) => (Math.abs(xOf(k) - x) < Math.abs(xOf(ks[best]) - x) ? i : best), 0));
    },
    onkeydown: (event) => {
      const next = {ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, Home: 0, End: ks.length - 1}[event.key];
      if (next !== undefined) { event.preventDefault(); point(next); }
    },
  },
  [0, 0.25, 0.5, 0.75, 1].map((share) => [
    svg("line", {class: "grid", x1: FRAME.left, x2: FRAME.right, y1: yOf(share), y2: yOf(share)}),
    svg("text", {x: FRAME.left - 6, y: yOf(share) + 4, "text-anchor": "end"}, `${100 * share}%`)]),
  thinned(ks).map((k) => svg("text", {x: xOf(k), y: FRAME.bottom + 17, "text-anchor": "middle"}, k)),
  curves.baseline === null ? null : svg("line", {class: "base", x1: FRAME.left, x2: FRAME.right, y1: yOf(curves.baseline), y2: yOf(curves.baseline)}),
  guide, drawn);
  point(at);
  return element("figure", {class: "chart"},
    element("figcaption", {}, `${name} `, element("span", {class: "soft"}, `${one.num_real} real, ${one.num_fake} fake`)), chart, readout);
}

/** Those of some rising numbers that are far enough apart on a logarithmic axis to be labeled. */
function thinned(ks) {
  const kept = [ks.at(-1)];
  for (const k of ks.slice(0, -1).reverse()) {
    if (kept.at(-1) / k >= (ks.at(-1) / ks[0]) ** 0.13) kept.push(k);
  }
  return kept;
}

/* ---- whiskers of the color study */

function showWhiskers(host, run) {
  const charts = run.charts.map(({ablation, rows}) => {
    const width = 420, left = 110, right = 370, height = 34 * rows.length + 40;
    const xAt = (value) => left + (value / 100) * (right - left);
    const box = (row, when, y) => svg("g", {class: `of-${when}`},
      svg("title", {}, `${row.generator}, ${when}: median ${short(row[`median_${when}`])}%, quartiles ${short(row[`q1_${when}`])} to ${short(row[`q3_${when}`])}%`),
      svg("line", {class: "whisker", x1: xAt(row[`low_${when}`]), x2: xAt(row[`high_${when}`]), y1: y, y2: y}),
      svg("rect", {class: "box", x: xAt(row[`q1_${when}`]), width: Math.max(xAt(row[`q3_${when}`]) - xAt(row[`q1_${when}`]), 1), y: y - 5, height: 10}),
      svg("line", {class: "median", x1: xAt(row[`median_${when}`]), x2: xAt(row[`median_${when}`]), y1: y - 6, y2: y + 6}));
    const drops = rows.map((row) => `${row.generator || "all"} ${short(row.drop)}`).join(", ");
    const chart = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Probability of being fake, originals and ${ablation}; drop of the medians in points: ${drops}`},
      svg("text", {x: right + 8, y: 10}, "drop"),
      [0, 25, 50, 75, 100].map((share) => [
        svg("line", {class: "grid", x1: xAt(share), x2: xAt(share), y1: 16, y2: height - 20}),
        svg("text", {x: xAt(share), y: height - 5, "text-anchor": "middle"}, `${share}%`)]),
      rows.map((row, i) => {
        const y = 16 + 34 * i + 17;
        return [svg("text", {x: left - 8, y: y + 4, "text-anchor": "end"}, `${row.generator || "all"} (${row.num})`),
          box(row, "before", y - 7), box(row, "after", y + 7), svg("text", {x: right + 8, y: y + 4}, short(row.drop))];
      }));
    return element("figure", {class: "chart"},
      element("figcaption", {}, `Probability of being fake: original and ${ablation}`),
      legend([["of-before", "original"], ["of-after", ablation]]), chart);
  });
  host.append(element("div", {class: "charts wide"}, charts));
}

/* ---- channel pages */

function showCovers(host) {
  const {covers} = data;
  host.append(element("ul", {class: "covers"}, covers.map((key, i) => element("li", {}, element("a", {href: linkTo(key)},
    cell("covers", i, covers.length, `A patch of ${key}`, data.patches[key].cell <= 36), `${i + 1}. ${key}`)))));
}

function facts(key) {
  const rows = data.rankings.map((ranking) => [ranking, keysOf(ranking).indexOf(key)]).filter(([, i]) => i >= 0);
  const head = ["ranking", "rank", "omega", "± se", "95% interval", "rank interval", "in the top"];
  const table = element("table", {}, element("caption", {}, "Share of the site's relevance (FF-RS)"),
    element("thead", {}, element("tr", {}, head.map((words, i) => element("th", {scope: "col", class: i ? "number" : null}, words)))),
    element("tbody", {}, rows.map(([ranking, i]) => {
      const columns = columnsOf(ranking);
      const cells = [0, 2, 3, 4, 5, 6].map((column) => element("td", {class: "number"}, columns[column].text(i)));
      return element("tr", {}, element("td", {}, `${nameOf(ranking)} (top ${ranking.k})`), cells);
    })));
  const effect = data.effects[key];
  return [
    rows.length ? element("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Omega"}, table) : null,
    effect === undefined ? null : element("p", {}, `Switched off alone, it lowers the mean logit of the fake images by `, element("strong", {}, short(effect)), " (towards real)."),
  ];
}

function patches(key) {
  const channel = data.patches[key];
  if (!channel?.rows.length) return null;
  const readout = element("p", {class: "readout soft", role: "status"}, "Point at a patch to see where it is from.");
  const count = channel.rows.reduce((sum, row) => sum + row.items.length, 0);
  const placed = channel.rows.reduce((sum, row) => sum + row.places, 0);
  let index = 0, place = 0;
  const rows = channel.rows.map(({generator, items, places}) => {
    const cells = items.map(([rank, value, path, top, bottom, left, right]) => {
      const words = `${generator || "all images"}, ${rank}: activation ${short(value)}, rows ${top} to ${bottom}, columns ${left} to ${right} of ${data.paths[path]}`;
      const shown = cell(`patches ${key}`, index++, count, words, channel.cell <= 36);
      shown.addEventListener("pointerenter", () => { readout.textContent = words; });
      return shown;
    });
    const where = Array.from({length: places}, (_, i) => cell(`places ${key}`, place++, placed, `Where patch ${i + 1} of ${generator || "all images"} is`, false));
    return [element("h4", {}, generator || "all images"), element("div", {class: "patches"}, cells),
      where.length ? [element("p", {class: "soft"}, "Where the first of them are:"), element("div", {class: "patches"}, where)] : null];
  });
  return element("section", {"aria-labelledby": "patches-heading"}, element("h3", {id: "patches-heading"}, "What it looks at: the strongest patches"), rows, readout);
}

function densities(key) {
  const {ablation, tests, densities: curves} = data.color;
  if (!curves?.[key]?.length) return null;
  const charts = curves[key].map(([generator, low, high, before, after]) => {
    const test = tests[key].find(([own]) => own === generator);
    const [, num, p, adjusted, paired, effect, note] = test ?? [];
    const xAt = (value) => 6 + ((value - low) / (high - low || 1)) * 288;
    const draw = (heights, kind) => {
      if (!Array.isArray(heights)) return svg("g", {class: `of-${kind}`}, svg("line", {class: "line", x1: xAt(heights), x2: xAt(heights), y1: 8, y2: 96}));
      const line = heights.map((height, i) => `L${(6 + (i / (heights.length - 1)) * 288).toFixed(1)} ${(96 - (height / 250) * 88).toFixed(1)}`).join("");
      return svg("g", {class: `of-${kind}`}, svg("path", {class: "area", d: `M6 96${line}L294 96Z`}));
    };
    return element("figure", {class: "chart"}, element("figcaption", {}, generator || "all images"),
      svg("svg", {viewBox: "0 0 300 114", role: "img", "aria-label": `Densities of the largest activation on ${generator || "all images"}, original and ${ablation}`},
        svg("line", {class: "grid", x1: 6, x2: 294, y1: 96, y2: 96}), draw(before, "before"), draw(after, "after"),
        svg("text", {x: 6, y: 110}, short(low)), svg("text", {x: 294, y: 110, "text-anchor": "end"}, short(high))),
      test ? element("p", {class: "soft"}, `Mood's p ${short(p)} (adjusted ${short(adjusted)}), paired p ${short(paired)}, effect ${short(effect)}, ${num} images${note ? `; ${note}` : ""}`) : null);
  });
  return element("section", {"aria-labelledby": "densities-heading"},
    element("h3", {id: "densities-heading"}, `Largest activation, original and ${ablation}`),
    legend([["of-before", "original"], ["of-after", ablation]]), element("div", {class: "charts"}, charts));
}

function byGenerator(key) {
  return data.omega.filter(({channels}) => channels[key]).map(({run, channels}) => element("section", {},
    element("h3", {}, `Omega by generator${data.omega.length > 1 ? ` (${run})` : ""}`),
    element("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Omega by generator"}, element("table", {},
      element("thead", {}, element("tr", {}, ["images", "generator", "omega", "n"].map((words, i) => element("th", {scope: "col", class: i > 1 ? "number" : null}, words)))),
      element("tbody", {}, channels[key].map(([label, generator, omega, count]) => element("tr", {},
        element("td", {}, label), element("td", {}, generator || "(unknown)"), element("td", {class: "number"}, percent(omega, 3)), element("td", {class: "number"}, count))))))));
}

/** The channels around a channel: of those with a page of their own, else by rank. */
function neighbors(key) {
  const ranked = data.rankings.map(keysOf).find((keys) => keys.includes(key)) ?? [];
  const list = data.channels.includes(key) ? data.channels : ranked;
  const at = list.indexOf(key);
  return {list, at, before: list[at - 1], after: list[at + 1]};
}

function showChannel(key) {
  const {list, at, before, after} = neighbors(key);
  const go = (other) => () => { location.hash = linkTo(other); };
  const heading = element("h2", {tabindex: -1}, key);
  document.getElementById("channel").replaceChildren(
    element("div", {class: "channel-bar"},
      element("button", {type: "button", id: "back", onclick: leave}, "Back to the report"),
      element("button", {type: "button", id: "previous", disabled: !before, onclick: go(before)}, "← Previous"),
      element("button", {type: "button", id: "next", disabled: !after, onclick: go(after)}, "Next →"),
      element("span", {class: "soft"}, at < 0 ? "" : `${at + 1} of ${list.length.toLocaleString("en")}; arrow keys turn pages, Escape goes back`)),
    heading,
    ...(at < 0 ? [element("p", {class: "warning"}, "This report knows no such channel.")] : [facts(key), patches(key), densities(key), byGenerator(key)].flat().filter(Boolean)));
  heading.focus({preventScroll: true});
  scrollTo(0, 0);
}

/* ---- which page is shown: #/channel/KEY, or the report at a section */

const title = document.title, report = document.getElementById("report"), page = document.getElementById("channel");
const PREFIX = "#/channel/";
let left = null; // how the report was left: hash, scroll position, focus

function leave() {
  location.hash = left?.hash || "#channels";
}

function route() {
  const {hash} = location;
  if (hash.startsWith(PREFIX)) {
    if (page.hidden) left = {hash: route.last, top: scrollY, focus: document.activeElement};
    const key = decodeURIComponent(hash.slice(PREFIX.length));
    report.hidden = true;
    page.hidden = false;
    document.title = `${key} – ${title}`;
    showChannel(key);
  } else if (!page.hidden) {
    report.hidden = false;
    page.hidden = true;
    page.replaceChildren();
    document.title = title;
    if (left && (left.hash || "#channels") === hash) {
      scrollTo(0, left.top);
      left.focus.focus({preventScroll: true});
    } else document.getElementById(hash.slice(1))?.scrollIntoView();
    left = null;
  }
  route.last = hash;
}

addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (page.hidden || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select")) return;
  const to = {ArrowLeft: "previous", ArrowRight: "next", Escape: "back"}[event.key];
  const scrolls = event.target.closest("[role=region]"); // by arrow keys, from side to side
  if (to && (to === "back" || !scrolls)) document.getElementById(to).click();
});

addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});

if (data.rankings.length) showRanking(document.getElementById("ranking-table"));
for (const [i, host] of document.querySelectorAll(".curves").entries()) showCurves(host, data.curves[i]);
for (const [i, host] of document.querySelectorAll(".whiskers").entries()) showWhiskers(host, data.whiskers[i]);
for (const image of document.querySelectorAll("img[data-image]")) {
  whenNear(image, () => picture(image.dataset.image).then((url) => { image.src = url; }));
}
const covers = document.getElementById("covers");
if (covers) whenNear(covers, () => showCovers(covers));
route();
