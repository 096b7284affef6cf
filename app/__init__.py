"""HTTP in: the Flask application; validates, calls core, answers."""
