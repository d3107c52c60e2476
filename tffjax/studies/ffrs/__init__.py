"""FF-RS, the forensic feature relevance statistic."""
