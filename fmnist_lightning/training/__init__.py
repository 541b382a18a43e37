"""The LightningModule and what runs it."""
