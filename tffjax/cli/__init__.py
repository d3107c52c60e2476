"""The command line: one file a command. It parses, calls a study and prints; no numerics."""
