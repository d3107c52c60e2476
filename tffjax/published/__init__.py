"""Published numbers (tables of the paper's supplement, in percent), shipped as data to compare with."""
