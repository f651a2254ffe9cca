"""Recognition: from a few labelled particles to classes, probabilities and rejection."""
