package source

// Carried reads an identity that an installer left on the node's own disk, an identity document or an Ignition config;
// place names it for people.
func Carried(place string, text []byte) (Found, error) {
	found, err := plain.read(place, text)
	found.From = place
	return found, err
}
