"""Reading and keeping: image files, users' inputs, batches by worker processes, kept features, checkpoints, models."""
