"""Classifies each prompt into a category, with calibrated uncertainty."""
