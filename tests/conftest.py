"""Settings for all tests: a slow shared machine must not fail a property test."""

from hypothesis import settings

settings.register_profile("agrl", deadline=None, max_examples=60)
settings.load_profile("agrl")
