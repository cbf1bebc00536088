"""What stands between a call that the gate let pass and the provider or tool that it is for."""
