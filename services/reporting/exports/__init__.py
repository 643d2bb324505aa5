"""Export jobs: all clicks or conversions of an interval as one file, made in the background.

A job is a row in Postgres and a file in a folder. A worker takes one job after another, writes its
rows piece by piece and notes after each how far it is; whoever takes the job after a crash goes on
there. The file appears under its name once it is whole, and is removed some days later.
"""
