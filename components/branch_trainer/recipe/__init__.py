"""What a recipe adds to the training core: model, settings, training as a whole, export."""
