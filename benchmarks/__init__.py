"""Figures, beside the raw limit measured in the same minutes. See README.md here."""
