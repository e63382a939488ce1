"""How a model runs and how its weights are kept. Nothing here is imported before a model is really used."""
