"""Layout of a network for inputs."""


class Layout:
    pass
