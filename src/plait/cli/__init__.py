"""The verbs; thin, they talk to the API only."""
