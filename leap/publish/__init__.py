"""What goes to the Hub: cards and uploads."""
