"""Playbooks and roles that ship with vmctl; plain files, which ``ansible-playbook`` runs without vmctl as well."""
