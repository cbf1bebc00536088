"""What is looked for in what goes in and comes out: secrets, personal data, and text that pretends to be more."""
