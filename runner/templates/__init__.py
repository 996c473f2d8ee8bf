"""How a task's configuration reads the row: locators, Jinja2 templates, and what one rendering may use."""
