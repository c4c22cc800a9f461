[
 {
  "property-id" "tag:staff@noreply.openkim.org,2014-04-15:property/structure-cubic-crystal-npt"
  "instance-id" 1
  "short-name" {"source-value" $name}
  "species" {"source-value" $species}
  "a" {"source-value" $a "source-unit" "angstrom"}
  "basis-atom-coordinates" {"source-value" $basis}
  "space-group" {"source-value" $group}
  "temperature" {"source-value" 0.0 "source-unit" "K"}
  "cauchy-stress" {"source-value" [0.0 0.0 0.0 0.0 0.0 0.0] "source-unit" "GPa"}
 }
 {
  "property-id" "tag:staff@noreply.openkim.org,2014-04-15:property/cohesive-potential-energy-cubic-crystal"
  "instance-id" 2
  "short-name" {"source-value" $name}
  "species" {"source-value" $species}
  "a" {"source-value" $a "source-unit" "angstrom"}
  "basis-atom-coordinates" {"source-value" $basis}
  "space-group" {"source-value" $group}
  "cohesive-potential-energy" {"source-value" $energy "source-unit" "eV"}
 }
]
