"""Real servers, the targets of ``remotes:``. vmctl provisions them and logs in; it never makes or removes any."""
