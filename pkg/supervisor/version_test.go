package supervisor

import "testing"

func TestMalformedTokenBug(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]Exposure{
		"v1.31.1+k3s1":       Exposed,
		"v1.31.13+k3s1":      Exposed,
		"v1.31.14+k3s1":      Fixed,
		"v1.31.14-rc1+k3s1":  ExposureUnknown,
		"v1.31.15-rc1+k3s1":  Fixed,
		"v1.32.9+k3s1":       Exposed,
		"v1.32.10+k3s1":      Fixed,
		"v1.33.5+rke2r1":     Exposed,
		"v1.33.6+rke2r1":     Fixed,
		"v1.34.1+k3s1":       Exposed,
		"v1.34.2+k3s1":       Fixed,
		"v1.35.0+k3s1":       Fixed,
		"v1.35.0-rc1+k3s1":   Fixed,
		"v1.30.14+k3s2":      Exposed,
		"v1.24.0+k3s1":       Exposed,
		"v1.31.1":            ExposureUnknown,
		"v1.31.1-eks-abcdef": ExposureUnknown,
		"v1.31.1+gke":        ExposureUnknown,
		"v1.31+k3s1":         ExposureUnknown,
		"v2.0.0+k3s1":        ExposureUnknown,
		"v1.x.0+k3s1":        ExposureUnknown,
		"v1.31.y+k3s1":       ExposureUnknown,
		"v1.-1.0+k3s1":       ExposureUnknown,
		"+k3s1":              ExposureUnknown,
		"":                   ExposureUnknown,
	} {
		if got := MalformedTokenBug(version); got != want {
			t.Errorf("%q: got %s, want %s", version, got, want)
		}
	}
}
