"""Files, tables and figures of results."""
