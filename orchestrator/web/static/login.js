// `vecfleet up` prints an address that ends in #TOKEN: what follows # is never sent, so no log has it.
"use strict";
const token = decodeURIComponent(location.hash.slice(1));
if (token) {
  history.replaceState(null, "", location.pathname + location.search);
  document.getElementById("token").value = token;
  document.getElementById("login").requestSubmit();
}
