"""Maps each category to an expert, using a table solved in advance for the highest quality under a budget."""
