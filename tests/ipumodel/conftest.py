from hypothesis import settings

# No absolute times in tests: a busy machine is no failure.
settings.register_profile("ipumodel", deadline=None)
settings.load_profile("ipumodel")
