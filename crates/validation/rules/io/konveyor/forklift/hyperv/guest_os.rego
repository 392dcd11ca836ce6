package io.konveyor.forklift.hyperv

import rego.v1

# what the integration services tell of the guest; absent where they do not run
has_guest_os if {
	is_string(input.guestOS)
	input.guestOS != ""
}
