"""The evaluation service: Scale's SGP v5 evaluations API over runs of this program."""
