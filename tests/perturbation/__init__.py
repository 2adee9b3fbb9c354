"""Real processes under real faults: manifests say what is done to them, a client's history says what came of it."""
