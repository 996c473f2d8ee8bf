"""Scale's SGP v5 API: its routes, what their bodies may say, and the pages of their lists."""
