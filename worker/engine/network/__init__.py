"""TorchScript and torch.export archives as pure functions; surgery; initialisation."""
