"""Several devices and processes: the mesh, the placement of tables, and Ray clusters."""
