"""Files in a run's folder that later processes rely on.

They are the checkpoints of an arm, the digests of their files, and the marks of finished steps.
"""
