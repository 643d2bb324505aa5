"""Raw rows of facts: conversions and clicks as they are."""
