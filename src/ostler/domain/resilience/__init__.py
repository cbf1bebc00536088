"""What is done when others fail: waiting and trying again, and not asking who fails."""
