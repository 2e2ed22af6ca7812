"""Stage `train`: build the training dataset and train the next model."""
