"""What travels: frozen values, no behaviour beyond reading themselves."""
