// SPDX-License-Identifier: GPL-2.0-only
/* A program whose exit status tells that it has run. */

int main(void)
{
	return 5;
}
