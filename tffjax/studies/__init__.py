"""The studies: each has its statistic, its sums over many images, its tables and its figures."""
