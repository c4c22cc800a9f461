# The conventional cell, its size relaxed until the pressure is gone.
kim init $model metal
lattice $lattice $guess
region cell block 0 1 0 1 0 1
create_box 1 cell
create_atoms 1 box
mass 1 $mass
kim interactions $species
neigh_modify one 20000 page 200000  # some models reach far
fix relax all box/relax iso 0.0 vmax 0.001
min_style cg
minimize 1e-15 1e-15 1000 10000
variable a equal lx
variable e equal pe/atoms
print "$$(v_a:%.9f) $$(v_e:%.9f)" file output/lattice.txt screen no
