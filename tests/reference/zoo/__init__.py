"""The zoo: small networks with one peculiarity each, for tests of whatever must work on any network."""
