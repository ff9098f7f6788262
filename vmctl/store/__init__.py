"""What vmctl keeps on disk: machine records, the journal, locks, port leases. All writes are atomic."""
