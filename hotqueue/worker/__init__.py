"""The worker: a supervisor, a template that has imported the application, and children that consume."""
