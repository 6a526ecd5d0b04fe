"""A Composition of Experts serving system: route a prompt, map it to one expert, run that expert from memory tiers."""
