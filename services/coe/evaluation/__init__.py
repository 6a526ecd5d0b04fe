"""What a router and a mapping are worth, judged offline on outcomes of models on prompts."""
