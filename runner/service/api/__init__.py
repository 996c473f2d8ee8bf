"""Scale's SGP v5 API: its routes, the models of bodies and answers, and the pages of lists."""
