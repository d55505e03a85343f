/* The genome: a moving mean of a series with missing values. */

#include <math.h>

/* to[i] is the mean of what is not missing (NaN) in from[i - width / 2 .. i + width / 2]; NaN where all of it is.
   width is odd; the series ends where it ends. */
void smooth(const double *from, double *to, long size, long width)
{
    for (long i = 0; i < size; i++) {
        double sum = 0;
        long count = 0;
        for (long j = i - width / 2; j <= i + width / 2; j++) {
            if (j >= 0 && j < size && !isnan(from[j])) {
                sum += from[j];
                count++;
            }
        }
        to[i] = count ? sum / count : NAN;
    }
}
