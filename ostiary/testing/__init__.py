"""The test kit, shipped for whoever adds a protocol, a store or a sink: real peers, clients, issuers, playbooks."""
