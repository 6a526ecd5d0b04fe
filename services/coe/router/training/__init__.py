"""`coe train router`: from labelled prompts to an artifact."""
