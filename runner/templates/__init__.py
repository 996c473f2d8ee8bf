"""How a task's configuration reads the row: locators, Jinja2 templates, and the limits of one rendering."""
