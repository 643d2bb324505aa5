"""The whole platform on one machine: a real Kafka, a real Postgres and every service as a process.

Promise: nothing started here outlives its starter. Every child asks the kernel to be signalled when
its parent dies (`child`), so that even a SIGKILL of the supervisor leaves no process behind. The
request is bound to the thread that started the child: start children from the main thread only.
Systems without that request (any but Linux) rely on the orderly stop alone.
"""
