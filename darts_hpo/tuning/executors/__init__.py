"""Where trials run: in this process, in processes of this machine, on a SLURM cluster, on Ray. One file each."""
