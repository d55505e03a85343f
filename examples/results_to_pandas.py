"""The experiments of a session as a pandas frame, while it is open and afterwards."""

import tiny_lab

import nightlab

lab = tiny_lab.make()
with lab.session("frame", allow_missing="all") as session:
    session.run(experiments=4, confirm=0)
    frame = session.to_pandas()

print(frame[["number", "status", "metric", "bar", "hypothesis"]].to_string(index=False))
print("kept:", (frame.status == "keep").sum(), "of", len(frame))
print("metric:", frame.attrs["metric"], frame.attrs["goal"])

# The same from a file, also while another process runs the session.
assert nightlab.load(lab.path, "frame").equals(frame)
