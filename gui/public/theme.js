// SPDX-License-Identifier: BSD-2-Clause
//
// theme - light or dark, as was chosen here before, or else as the system
// is; before anything is painted.
{
    let choice = null;
    try {
        choice = localStorage.getItem('theme');
    } catch {
        // storage is switched off: as the system is
    }
    if (choice === 'light' || choice === 'dark')
        document.documentElement.dataset.theme = choice;
}
